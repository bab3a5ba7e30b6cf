"""A module that has one of two services, as workers of different deployments have."""

import os

from agnt5 import function

if os.environ.get("TEST_SERVICE") == "left":

    @function(service="left")
    async def greet(ctx, name):
        return f"left greets {name}"

elif os.environ.get("TEST_SERVICE") == "right":

    @function(service="right", name="greet")
    async def greet_right(ctx, name):
        return f"right greets {name}"
