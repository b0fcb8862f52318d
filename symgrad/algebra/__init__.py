"""The algebra of tensor expressions: closed forms, their normal form, the shortest way to write them."""
