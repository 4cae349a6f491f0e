"""What every Capstan service shares. It imports no service and knows no domain type."""
