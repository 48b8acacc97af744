"""`python -m tests.documents`: renews all parts of the pages that are made from the code."""

from tests.documents.markers import renew
from tests.documents.pages import OUTPUTS, QUICK

for name in dict.fromkeys([*renew(QUICK), *renew(OUTPUTS)]):
    print(f"renewed {name}")
