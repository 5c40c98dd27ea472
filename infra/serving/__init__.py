"""Services over HTTP: what stands between a caller and a model. Whatever the model is: nothing here knows."""
