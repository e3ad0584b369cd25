"""The cluster: units of work carried out by worker processes of this machine, or by Ray on many."""
