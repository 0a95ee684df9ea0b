"""The baselines in the virtual world: FL-GAN as a server and its clients, and the ordinary GAN on one machine."""
