"""Bodies as a provider sends them, each another event."""


def body(number: int) -> bytes:
    """Return the body of an event of trustshare; `number` makes its identity."""
    return (
        b'{"type":"payment_received","from":"buyer@example.com","to":"seller@example.com",'
        b'"verification":{"from":"in_review","to":"verified"},"token":"%010d","paymentToken":"%016d",'
        b'"currency":"gbp","description":"my transaction description","amount":150000,"balance":150000}'
    ) % (number, number)
