"""Tests of the sandbox: over the wire, as any client would meet it."""
