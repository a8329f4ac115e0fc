"""`python -m rib`."""

from rib.cli import main

if __name__ == "__main__":
    main()
