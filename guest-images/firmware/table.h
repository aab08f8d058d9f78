/*
 * The resource table (Linux include/linux/remoteproc.h): what the firmware asks of its host, and where both agree on
 * the vrings. The host writes into it at any time, so every look at it is a look at memory.
 */
#ifndef TABLE_H
#define TABLE_H

#include <stdbool.h>
#include <stdint.h>

/* Vrings of the rpmsg device, by what they carry. */
enum { TO_HOST, FROM_HOST, VRINGS };

/* Most descriptors of either, as the table offers them. */
#define TO_HOST_NUM 128u
#define FROM_HOST_NUM 64u

/* VIRTIO_RPMSG_F_NS: the host wants to hear of services. */
#define FEATURE_NAME_SERVICE 1u

/* What the host has written about a vring. */
struct vring_place {
	uint32_t address;
	uint32_t align;
	uint32_t num;
	uint32_t notifyid;
};

/* Whether a driver serves the device. */
bool table_driver_ok(void);

/* The features that the driver has accepted. */
uint32_t table_features(void);

struct vring_place table_vring(uint32_t which);

#endif
