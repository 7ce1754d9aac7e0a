"""The measurements behind the README's numbers, and the pages that show them."""
