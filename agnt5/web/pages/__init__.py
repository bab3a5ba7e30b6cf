"""The web pages: server-rendered, usable without JavaScript, live with it."""
