/*
 * What the endpoints of this core do. See services.c for the list.
 */
#ifndef SERVICES_H
#define SERVICES_H

#include "rpmsg.h"

extern const struct endpoint endpoints[];
extern const uint32_t endpoint_count;

/* Sends the next message that somebody has asked a source for; false if there is none, or no buffer for it. */
bool services_send_next(void);

/* Forgets everything about a link that is gone. */
void services_reset(void);

#endif
