"""Labels: human-made questions, answers and links that tell good retrieval from bad."""
