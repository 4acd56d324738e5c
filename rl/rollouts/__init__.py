"""Rollouts and the engines that generate them."""
