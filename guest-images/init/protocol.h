/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Constants of the protocol between a guest's init and the host that started the guest, for both
 * sides. guest-images/protocol.md explains it; what stands here is what goes over the wire.
 */
#ifndef GUEST_IMAGES_INIT_PROTOCOL_H
#define GUEST_IMAGES_INIT_PROTOCOL_H

#include <stdint.h>

#define LODGE_PROTOCOL_VERSION 2 /* of HELLO. 2: knows WARM */

/* virtio-console ports, by name (VIRTIO_CONSOLE_PORT_NAME). */
#define LODGE_PORT_CONTROL "org.lodge.control"
#define LODGE_PORT_STDIN   "org.lodge.stdin"
#define LODGE_PORT_STDOUT  "org.lodge.stdout"
#define LODGE_PORT_STDERR  "org.lodge.stderr"

/* Every frame on the control port: this header, little-endian, then `length` bytes of fields. */
struct lodge_frame_header {
    uint32_t length; /* of what follows, in bytes */
    uint16_t type;   /* enum lodge_frame_type */
    uint16_t zero;   /* reserved: send 0, ignore */
};

/* Longer frames are a protocol error. */
#define LODGE_FRAME_MAX_TO_GUEST (4u << 20)
#define LODGE_FRAME_MAX_TO_HOST  (64u << 10)

enum lodge_frame_type {
    /* host to guest */
    LODGE_FRAME_START = 0x01,     /* run the command: arg env cwd uid gid groups hostname ... */
    LODGE_FRAME_SIGNAL = 0x02,    /* signal=N: to the command's process group */
    LODGE_FRAME_WINSIZE = 0x03,   /* rows=N cols=N: only in tty mode */
    LODGE_FRAME_STDIN_EOF = 0x04, /* bytes=N: end of input after so many bytes in all */
    LODGE_FRAME_END = 0x05,       /* everything has arrived: end the machine now */
    LODGE_FRAME_COPY = 0x06,      /* before START: seed=HEX mac=BEFORE,AFTER forget=1 */
    LODGE_FRAME_WARM = 0x07,      /* before START: arg env cwd, of a command to rehearse */

    /* guest to host */
    LODGE_FRAME_HELLO = 0x81,   /* version=N ...: ready for START */
    LODGE_FRAME_STARTED = 0x82, /* pid=N: the command's program was executed */
    LODGE_FRAME_EXIT = 0x83,    /* code=N or signal=N; stdout=BYTES stderr=BYTES */
    LODGE_FRAME_ERROR = 0x84,   /* code=125|126|127 stage=NAME message=TEXT: no command ran */
    LODGE_FRAME_WARMED = 0x85,  /* the rehearsal is over */
};

/* Exit statuses of an ERROR frame. */
#define LODGE_STATUS_FAILED         125 /* the guest could not be set up */
#define LODGE_STATUS_NOT_EXECUTABLE 126 /* the command was found but can't be run */
#define LODGE_STATUS_NOT_FOUND      127 /* the command was not found */

/* Progress codes that init writes to I/O port 0x80. User land owns 0x60 to 0x7f. */
#define LODGE_PROGRESS_PORT    0x80
#define LODGE_PROGRESS_INIT    0x60 /* init entered */
#define LODGE_PROGRESS_COMMAND 0x61 /* the command is about to start */
#define LODGE_PROGRESS_MODULES 0x62 /* modules loaded */
#define LODGE_PROGRESS_ROOT    0x63 /* the root file system is in place */
#define LODGE_PROGRESS_HELLO   0x64 /* control port open, waiting for START */
#define LODGE_PROGRESS_EXITED  0x65 /* the command ended */
#define LODGE_PROGRESS_FAILED  0x7f /* set-up failed; ERROR says why */

#endif
