"""The dashboard: one page for the browser, which holds no data and asks the routes."""
