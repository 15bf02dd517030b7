"""Settings of the portal, all from the environment; `.env.example` lists every name, and a test holds it to that."""

import re
import sys
from pathlib import Path

import environ
from django.core.exceptions import ImproperlyConfigured

from portal import valkey

BASE_DIR = Path(__file__).resolve().parent.parent
env = environ.Env()
if (BASE_DIR / ".env").exists():
    env.read_env(BASE_DIR / ".env")

VERSION = re.search(r"^## \[([\d.]+)\]", (BASE_DIR / "CHANGELOG.md").read_text(), re.MULTILINE).group(1)  # type: ignore[union-attr]

# Where it runs
DEBUG = env.bool("DEBUG", default=False)
EMBEDDED = env.bool("EMBEDDED", default=False)  # the one-machine default: the mailbox page, plain HTTP on loopback
SECRET_KEY = env.str("SECRET_KEY")
SECRET_KEY_FALLBACKS = env.list("SECRET_KEY_FALLBACKS", default=[])  # old ones, still read and no longer written
SIGNING_KEY = env.str("SIGNING_KEY", default="")  # ed25519, 32 bytes in base64; embedded: made once in DATA_DIR/keys
SIGNING_PUBLIC_KEYS_BEFORE = env.list("SIGNING_PUBLIC_KEYS_BEFORE", default=[])  # of keys before it, base64
PORTAL_URL = env.str("PORTAL_URL", default="http://127.0.0.1:8000")  # how browsers and kits reach the site
LIVE_URL = env.str("LIVE_URL", default="")  # WebSocket origin when it is not the site's own
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["127.0.0.1", "localhost", "[::1]"])
CSRF_TRUSTED_ORIGINS = [PORTAL_URL]
CSRF_FAILURE_VIEW = "portal.views.csrf_failure"
IMAGE_DIGEST = env.str("IMAGE_DIGEST", default="")  # of the container image, to be recorded with what runs in it
DATA_DIR = Path(env.str("DATA_DIR", default=str(BASE_DIR / ".data")))
SAMPLE_DIR = env.str("SAMPLE_DIR", default="")  # a folder of photographs and labels.csv for the demonstration

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.humanize",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "allauth.socialaccount",
    "allauth.socialaccount.providers.openid_connect",
    "allauth.usersessions",
    "channels",
    "django_htmx",
    "rest_framework",
    "drf_spectacular",
    "rules.apps.AutodiscoverRulesConfig",
    "portal",
    "portal.accounts",
    "portal.audit",
    "portal.notifications",
    "portal.institutions",
    "portal.programmes",
    "portal.agreements",
    "contributions",
    "contributions.corpora",
    "governance.releases",
    "governance.benchmarks",
    "governance.board",
    "jobs",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "portal.middleware.request_numbers",
    "portal.middleware.content_security_policy",
    "portal.middleware.pages_take_forms",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "portal.middleware.bearer_token",
    "portal.refusals.on_record",
    "portal.middleware.sign_in_first",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "portal.accounts.gate.gate",
    "portal.middleware.read_only",
    "portal.middleware.domain_errors",
]

ROOT_URLCONF = "portal.urls"
WSGI_APPLICATION = "portal.wsgi.application"
ASGI_APPLICATION = "portal.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "portal.context.site",
            ],
        },
    }
]
FORM_RENDERER = "django.forms.renderers.TemplatesSetting"
INSTALLED_APPS.insert(0, "django.forms")

# PostgreSQL holds the truth
# Web and workers run as a role that owns nothing and cannot change what is append-only; these run as the owner.
APP_DATABASE_ROLE = env.db("DATABASE_URL")["USER"]
OWNER_COMMANDS = {"migrate", "grant_rights", "prepare_database"}
DATABASES = {"default": env.db("DATABASE_URL")}
if OWNER_COMMANDS & set(sys.argv[1:2]):
    DATABASES = {"default": env.db("MIGRATE_DATABASE_URL", default=env.str("DATABASE_URL"))}
# A thread never waits for another's connection (as many as threads); for a database that is away, not long.
DATABASES["default"]["OPTIONS"] = {"pool": {"min_size": 1, "max_size": 8, "timeout": 3, "reconnect_timeout": 3}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# Valkey: cache, Channels, Celery's broker
CACHES = {"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": env.str("CACHE_URL")}}
CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",  # 1.7 times faster than core (BENCHMARKS.md, 5)
        "CONFIG": valkey.channels(env.str("CHANNELS_URL")),
    }
}
CELERY_BROKER_URL = env.str("CELERY_BROKER_URL")
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_DEFAULT_QUEUE = "cpu"
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
# The broker must not deliver a long job a second time: the lease in PostgreSQL decides, not this clock.
# One more try at once, and no two seconds of sleep before it (kombu's own): a request may be waiting.
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "visibility_timeout": 7 * 24 * 3600,
    "socket_timeout": 5,
    "max_retries": 1,
    "interval_start": 0,
    "interval_step": 0,
    "interval_max": 0,
}
# A queue of its own: a check of fifteen minutes must not delay the repair of another.
CELERY_BEAT_SCHEDULE = {
    "sweep": {"task": "jobs.sweep", "schedule": 5.0, "options": {"queue": "sweep", "expires": 5}},
    "outbox": {"task": "jobs.send_outbox", "schedule": 10.0, "options": {"queue": "sweep", "expires": 10}},
    "log": {"task": "jobs.sequence_log", "schedule": 5.0, "options": {"queue": "sweep", "expires": 5}},
    "digests": {"task": "jobs.send_digests", "schedule": 3600.0, "options": {"queue": "sweep", "expires": 3600}},
    "tidy_uploads": {"task": "jobs.tidy_uploads", "schedule": 3600.0, "options": {"queue": "sweep", "expires": 3600}},
    "deletion": {"task": "jobs.delete_due_files", "schedule": 3600.0, "options": {"queue": "sweep", "expires": 3600}},
    "verify_files": {"task": "jobs.verify_files", "schedule": 3600.0, "options": {"queue": "sweep", "expires": 3600}},
    "tidy_outbox": {"task": "jobs.tidy_outbox", "schedule": 3600.0, "options": {"queue": "sweep", "expires": 3600}},
}

# The log that anybody can verify (docs/log.md)
AUDIT_ORIGIN = env.str("AUDIT_ORIGIN", default=PORTAL_URL.partition("://")[2].rstrip("/") + "/log")  # never changes
AUDIT_CHECKPOINT_SECONDS = env.int("AUDIT_CHECKPOINT_SECONDS", default=60)
AUDIT_CHECKPOINT_EVENTS = env.int("AUDIT_CHECKPOINT_EVENTS", default=100)
AUDIT_RETENTION_DAYS = env.int("AUDIT_RETENTION_DAYS", default=3650)  # how long the store lets nobody delete one
OUTBOX_KEPT_DAYS = 90  # rows of mail that was delivered or given up; the record of processing says so

# Any S3 store
S3_ENDPOINT_URL = env.str("S3_ENDPOINT_URL")
S3_PUBLIC_URL = env.str("S3_PUBLIC_URL", default=S3_ENDPOINT_URL)  # how browsers and kits reach the store
S3_ACCESS_KEY_ID = env.str("S3_ACCESS_KEY_ID")
S3_SECRET_ACCESS_KEY = env.str("S3_SECRET_ACCESS_KEY")
S3_BUCKET_PREFIX = env.str("S3_BUCKET_PREFIX", default="grf")
UPLOAD_QUOTA_BYTES = env.int("UPLOAD_QUOTA_BYTES", default=500 * 2**30)  # of all files of one institution
CLAMD_ADDRESS = env.str("CLAMD_ADDRESS", default="")  # of ClamAV's daemon, tcp:// or unix://; empty: nothing is scanned
UPLOAD_MAX_BYTES = env.int("UPLOAD_MAX_BYTES", default=20 * 2**30)

METRICS_TOKEN = env.str("METRICS_TOKEN", default="")  # what Prometheus shows at /metrics; empty: operators only

# People
AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = [
    "rules.permissions.ObjectPermissionBackend",
    "django.contrib.auth.backends.ModelBackend",
    "allauth.account.auth_backends.AuthenticationBackend",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.ScryptPasswordHasher"]
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "home"
ACCOUNT_ADAPTER = "portal.accounts.adapter.AccountAdapter"
ACCOUNT_USER_MODEL_USERNAME_FIELD = None
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*"]
ACCOUNT_SIGNUP_FORM_CLASS = "portal.accounts.forms.SignupForm"
ACCOUNT_EMAIL_VERIFICATION = "mandatory"
ACCOUNT_CONFIRM_EMAIL_ON_GET = False  # mail scanners follow links
ACCOUNT_LOGIN_ON_EMAIL_CONFIRMATION = True
ACCOUNT_EMAIL_SUBJECT_PREFIX = ""
ACCOUNT_LOGOUT_ON_GET = False
ACCOUNT_REAUTHENTICATION_TIMEOUT = 120  # seconds; a signature needs a fresh proof of identity (21 CFR 11.200)
ACCOUNT_PREVENT_ENUMERATION = True
USERSESSIONS_ADAPTER = "portal.accounts.adapter.SessionsAdapter"
USERSESSIONS_TRACK_ACTIVITY = False
ACCOUNT_EMAIL_NOTIFICATIONS = True  # a changed password or address is told to its owner
ACCOUNT_RATE_LIMITS = {"confirm_email": "1/m/key"}  # the link can be asked for again after a minute
MFA_SUPPORTED_TYPES = ["totp", "webauthn", "recovery_codes"]
MFA_PASSKEY_LOGIN_ENABLED = True
MFA_WEBAUTHN_USER_VERIFICATION = "required"  # so that a passkey alone is two components (21 CFR 11.200)
MFA_FORMS = {"edit_webauthn": "portal.accounts.forms.PasskeyNameForm"}
MFA_ADAPTER = "portal.accounts.adapter.MFAAdapter"  # encrypts what makes codes
MFA_WEBAUTHN_ALLOW_INSECURE_ORIGIN = EMBEDDED  # passkeys on http://localhost
MFA_TOTP_ISSUER = "Global RETFound"

# ORCID as a way to sign in; without a client id there is no such way
ORCID_ISSUER = env.str("ORCID_ISSUER", default="https://orcid.org")
ORCID_CLIENT_ID = env.str("ORCID_CLIENT_ID", default="")
ORCID_CLIENT_SECRET = env.str("ORCID_CLIENT_SECRET", default="")
SOCIALACCOUNT_ADAPTER = "portal.accounts.orcid.SocialAdapter"
SOCIALACCOUNT_AUTO_SIGNUP = False  # name and address are asked for
SOCIALACCOUNT_EMAIL_AUTHENTICATION = False  # an address from elsewhere signs nobody in
SOCIALACCOUNT_STORE_TOKENS = False
if ORCID_CLIENT_ID:
    SOCIALACCOUNT_PROVIDERS = {
        "openid_connect": {
            "APPS": [
                {
                    "provider_id": "orcid",
                    "name": "ORCID",
                    "client_id": ORCID_CLIENT_ID,
                    "secret": ORCID_CLIENT_SECRET,
                    "settings": {"server_url": ORCID_ISSUER, "scope": ["openid"], "oauth_pkce_enabled": True},
                }
            ],
        }
    }

# Mail
EMAIL_BACKEND = "portal.notifications.backends.MailboxBackend"  # the embedded default keeps mail in the portal
if env.str("EMAIL_URL", default=""):
    vars().update(env.email_url("EMAIL_URL"))
elif not EMBEDDED:
    raise ImproperlyConfigured("EMAIL_URL is needed where EMBEDDED is not set: without it nobody gets any mail.")
EMAIL_TIMEOUT = 10  # seconds; a hung mail server must not hold a request
MAILBOX_PAGE = EMAIL_BACKEND == "portal.notifications.backends.MailboxBackend" and EMBEDDED
CONTROLLER = env.str("CONTROLLER", default="Global RETFound Consortium")  # on the record of processing
DEFAULT_FROM_EMAIL = env.str("DEFAULT_FROM_EMAIL", default="Global RETFound <portal@localhost>")
# Where contributions are kept and processed, ISO 3166-1 alpha-2.
DATA_COUNTRIES = [code.strip() for code in env.list("DATA_COUNTRIES", default=[])]
PRIVACY_CONTACT = env.str("PRIVACY_CONTACT", default=DEFAULT_FROM_EMAIL)  # for requests of Articles 15 to 22

# Pages
LANGUAGE_CODE = "en-gb"
LOCALE_PATHS = [BASE_DIR / "portal" / "locale"]
USE_TZ = True
TIME_ZONE = "UTC"
STATIC_URL = "static/"
STATIC_ROOT = DATA_DIR / "static"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.InMemoryStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}
WHITENOISE_USE_FINDERS = DEBUG

# Security
TRUSTED_PROXY_COUNT = env.int("TRUSTED_PROXY_COUNT", default=0)  # reverse proxies whose X-Forwarded-For is believed
ALLAUTH_TRUSTED_PROXY_COUNT = TRUSTED_PROXY_COUNT
SECURE_BROWSER = PORTAL_URL.startswith("https://")
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_BROWSER
SECURE_HSTS_SECONDS = 31536000 if SECURE_BROWSER else 0
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if SECURE_BROWSER else None
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
DATA_UPLOAD_MAX_MEMORY_SIZE = 2**20  # forms and JSON only: files never pass through the site

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "portal.accounts.authentication.BearerAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["portal.parsing.ShallowJSONParser"],
    "EXCEPTION_HANDLER": "portal.errors.problem_response",
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "portal.negotiation.AlwaysJson",
    "DEFAULT_SCHEMA_CLASS": "portal.openapi.AutoSchema",
    "NUM_PROXIES": TRUSTED_PROXY_COUNT,
    "DEFAULT_THROTTLE_RATES": {"device": "30/min"},
}

SPECTACULAR_SETTINGS = {
    "TITLE": "Global RETFound portal",
    "DESCRIPTION": "What people do on the pages of the portal, programs do here. The readable reference is at /api/.",
    "VERSION": VERSION,
    "LICENSE": {"name": "Apache License 2.0", "identifier": "Apache-2.0"},
    "SERVERS": [{"url": PORTAL_URL}],
    "OAS_VERSION": "3.1.0",
    "COMPONENT_SPLIT_REQUEST": True,
    "AUTHENTICATION_WHITELIST": ["portal.accounts.authentication.BearerAuthentication"],
    "ENUM_GENERATE_CHOICE_DESCRIPTION": False,
    "POSTPROCESSING_HOOKS": [],  # enumerations stay where they are used: their names would collide
}

LOG_FORMAT = env.str("LOG_FORMAT", default="line")  # or "json", for a collector
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {"redact": {"()": "portal.logging.Redact"}, "context": {"()": "portal.logging.Context"}},
    "formatters": {
        "line": {"()": "portal.logging.Lines", "format": "{asctime} {levelname} {name} {message}", "style": "{"},
        "json": {
            "()": "portal.logging.Json",
            "format": "{asctime}{levelname}{name}{message}{request_id}{run_id}",
            "style": "{",
        },
    },
    "handlers": {
        "console": {"class": "logging.StreamHandler", "formatter": LOG_FORMAT, "filters": ["redact", "context"]}
    },
    "root": {"handlers": ["console"], "level": env.str("LOG_LEVEL", default="INFO")},
    "loggers": {"botocore": {"level": "WARNING"}, "urllib3": {"level": "WARNING"}},
}
SILENCED_SYSTEM_CHECKS = ["urls.W005"]
