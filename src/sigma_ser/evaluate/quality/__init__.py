"""Quality of explanations: faithfulness curves, shape measures, stability."""
