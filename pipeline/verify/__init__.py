"""``pardalis verify``: an independent witness that what was revoked is gone.

The surprising rule: nothing of ours is imported here, and nothing that we wrote about our files is believed.
Every file below a folder is opened and read for what its bytes are. An import contract and a test hold that.
"""
