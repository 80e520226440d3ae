"""Break a hop of the running demo, as its owner would, or as it really happens."""

from local.control_client import main

if __name__ == "__main__":
    main("break", __doc__)
