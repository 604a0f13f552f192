"""How much of an explanation survives an attack: set, rank and shape measures with floors."""
