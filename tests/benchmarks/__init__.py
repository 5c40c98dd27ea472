"""Speed side by side with a peer, in one run. Never part of the tests: timings are noisy, laws are not."""
