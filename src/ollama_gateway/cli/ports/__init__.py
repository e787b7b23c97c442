"""One port for each resource: its documents, here from this machine's stores and the gateway's
figures, or there from the admin API. Commands know the port alone, so that both print the same.
"""
