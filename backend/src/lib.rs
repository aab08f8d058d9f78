//! vhost-device-rpmsg
