"""One module a dashboard, each with `board(goals)`."""
