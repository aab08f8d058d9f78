/*
 * The link to the host: two vrings, messages between endpoints on them, and the name service.
 */
#ifndef RPMSG_H
#define RPMSG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes of a message behind its header, in a buffer of 512. */
#define MAX_PAYLOAD 496u

/* An endpoint of this core. */
struct endpoint {
	/* Announced under this name, of at most 31 bytes. */
	const char *name;
	uint32_t address;
	void (*receive)(const struct endpoint *endpoint, uint32_t src, const uint8_t *payload, size_t len);
};

/* Sends a message; false if the host has no buffer for it. */
bool rpmsg_send(uint32_t src, uint32_t dst, const void *payload, size_t len);

/* Brings the link up or down, as the vdev status says. */
void rpmsg_look(void);

bool rpmsg_is_up(void);

/* Ends the link, whatever the status says, until it is brought up again. */
void rpmsg_end(void);

/* Deals with a bounded number of messages; false if there was nothing to do. */
bool rpmsg_serve(void);

/* Messages that could not be made sense of: bad buffer, bad length, unknown address. */
uint32_t rpmsg_refused(void);

#endif
