"""The Tovuk gateway: the one public HTTP surface."""
