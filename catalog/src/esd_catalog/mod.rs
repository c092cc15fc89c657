//! esd_catalog
