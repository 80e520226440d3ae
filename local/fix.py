"""Repair a hop of the running demo that `python -m local.break` broke, as its remedy says."""

from local.control_client import main

if __name__ == "__main__":
    main("fix", __doc__)
