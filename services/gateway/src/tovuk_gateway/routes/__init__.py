"""HTTP ⇄ wire, one module for each noun of the API."""
