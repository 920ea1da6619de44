"""The Flows API: the client, the way its requests take, and how its replies are read."""
