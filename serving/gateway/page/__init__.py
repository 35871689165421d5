"""The gateway's page: one request looked at, server-rendered, without a script and without anything from elsewhere."""
