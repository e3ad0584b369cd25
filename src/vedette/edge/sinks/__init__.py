"""Who is told of alerts and incidents, one file a kind."""
