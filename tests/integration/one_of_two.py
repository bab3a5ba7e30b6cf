"""A module that has one of two services, as workers of different deployments have."""

import os

from agnt5 import entity, function, workflow

if os.environ.get("TEST_SERVICE") == "left":

    @function(service="left")
    async def greet(ctx, name):
        return f"left greets {name}"

    @function(service="left")
    async def visit(ctx, name):
        return await ctx.entity("Guestbook", "hall").sign(name)

    @workflow(service="left")
    async def tour(ctx, name):
        return [await ctx.entity("Guestbook", "hall").sign(name), await ctx.entity("Guestbook", "hall").guests()]

elif os.environ.get("TEST_SERVICE") == "right":

    @function(service="right", name="greet")
    async def greet_right(ctx, name):
        return f"right greets {name}"

    Guestbook = entity("Guestbook")

    @Guestbook.write
    async def sign(ctx, name):
        guests = [*await ctx.get("guests", []), name]
        ctx.set("guests", guests)
        return len(guests)

    @Guestbook.read
    async def guests(ctx):
        return await ctx.get("guests", [])
