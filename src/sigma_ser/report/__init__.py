"""Tables, figures and the HTML page, from the rows alone. Imports core, statistics."""
