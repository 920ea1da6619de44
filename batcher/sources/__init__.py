"""What is sent: files and texts, their types, and the bodies that are posted for them."""
