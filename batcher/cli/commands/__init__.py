"""One file per command, named as it is typed and imported when it is called; what several of them need lies one level up."""
