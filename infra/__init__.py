"""What every package stands on: where bytes live and where work runs. Knows no model and no licence."""
