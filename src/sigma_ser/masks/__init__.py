"""From map to mask under a budget; the mask bank. Imports core, explainers."""
