"""What a training reads: pairs, pictures, their latents and what is known of them."""
