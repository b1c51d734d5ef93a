"""The proxy: agents speak messages to it, engines speak tokens to it, trainers read the tape."""
