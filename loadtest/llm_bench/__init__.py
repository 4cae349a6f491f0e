"""What a language model's server gives its users: times to tokens, tokens a second, dollars for a million of them."""
