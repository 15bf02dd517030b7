"""Pages and API over WSGI (ten times the requests of ASGI: docs/adr/0008)."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")
application = get_wsgi_application()
