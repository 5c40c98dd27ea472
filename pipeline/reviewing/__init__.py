"""What people look at to set a threshold: pages of borderline images and of a corpus, before and after."""
