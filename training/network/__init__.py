"""The networks: what a plan says, the blocks they are made of, how they are trained and what is saved of them."""
