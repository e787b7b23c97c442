"""All that can be asked of and done to a gateway by its operators, as plain functions.

The admin API speaks HTTP for it, and `gatewayctl` calls it on this machine or over that API.
"""
