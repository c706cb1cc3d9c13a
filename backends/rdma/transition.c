/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * transition - which attributes take a queue pair from one state to another (IBTA 10.3.1, table 91)
 *
 * A row is a transition; per transport it names the attributes that are required and those that are
 * allowed beside them. Any state may go to RESET, and any but RESET to ERR, with no attributes at all.
 */
#include "backends/rdma/rdma.h"

#define STATE    RDMA_QP_STATE
#define CURRENT  RDMA_QP_CURRENT_STATE
#define ACCESS   RDMA_QP_ACCESS
#define PKEY     RDMA_QP_PKEY_INDEX
#define PORT     RDMA_QP_PORT
#define QKEY     RDMA_QP_QKEY
#define AV       RDMA_QP_AV
#define MIN_RNR  RDMA_QP_MIN_RNR_TIMER
#define RD       RDMA_QP_MAX_RD_ATOMIC
#define DEST_RD  RDMA_QP_MAX_DEST_RD_ATOMIC
#define TIMEOUTS (RDMA_QP_TIMEOUT | RDMA_QP_RETRY_COUNT | RDMA_QP_RNR_RETRY)

struct attributes {
    uint32_t required, optional;
};

static const struct transition {
    enum rdma_qp_state from, to;
    bool not_rc;
    struct attributes rc, ud, gsi;
} transitions[] = {
    {RDMA_QPS_RESET, RDMA_QPS_INIT, .rc = {PKEY | PORT | ACCESS, 0}, .ud = {PKEY | PORT | QKEY, 0},
     .gsi = {PKEY | QKEY, PORT}},
    {RDMA_QPS_INIT, RDMA_QPS_INIT, .rc = {0, PKEY | PORT | ACCESS}, .ud = {0, PKEY | PORT | QKEY},
     .gsi = {0, PKEY | QKEY}},
    {RDMA_QPS_INIT, RDMA_QPS_RTR,
     .rc = {AV | RDMA_QP_PATH_MTU | RDMA_QP_DEST_QPN | RDMA_QP_RQ_PSN | DEST_RD | MIN_RNR,
            ACCESS | PKEY},
     .ud = {0, PKEY | QKEY}, .gsi = {0, PKEY | QKEY}},
    {RDMA_QPS_RTR, RDMA_QPS_RTS, .rc = {TIMEOUTS | RDMA_QP_SQ_PSN | RD, CURRENT | ACCESS | MIN_RNR},
     .ud = {RDMA_QP_SQ_PSN, CURRENT | QKEY}, .gsi = {RDMA_QP_SQ_PSN, CURRENT | QKEY}},
    {RDMA_QPS_RTS, RDMA_QPS_RTS, .rc = {0, CURRENT | ACCESS | MIN_RNR}, .ud = {0, CURRENT | QKEY},
     .gsi = {0, CURRENT | QKEY}},
    {RDMA_QPS_RTS, RDMA_QPS_SQD, .rc = {0, RDMA_QP_SQD_NOTIFY}, .ud = {0, RDMA_QP_SQD_NOTIFY},
     .gsi = {0, RDMA_QP_SQD_NOTIFY}},
    {RDMA_QPS_SQD, RDMA_QPS_RTS, .rc = {0, CURRENT | ACCESS | MIN_RNR}, .ud = {0, CURRENT | QKEY},
     .gsi = {0, CURRENT | QKEY}},
    {RDMA_QPS_SQD, RDMA_QPS_SQD,
     .rc = {0, PORT | AV | TIMEOUTS | RD | DEST_RD | ACCESS | PKEY | MIN_RNR},
     .ud = {0, PKEY | QKEY}, .gsi = {0, PKEY | QKEY}},
    {RDMA_QPS_SQE, RDMA_QPS_RTS, .not_rc = true, .ud = {0, CURRENT | QKEY},
     .gsi = {0, CURRENT | QKEY}},
};

static const struct attributes *attributes_of(const struct transition *transition,
                                              enum rdma_qp_type type)
{
    switch (type) {
    case RDMA_QP_RC:
        return transition->not_rc ? NULL : &transition->rc;
    case RDMA_QP_UD:
        return &transition->ud;
    case RDMA_QP_GSI:
        return &transition->gsi;
    }
    return NULL;
}

bool rdma_qp_transition(enum rdma_qp_type type, enum rdma_qp_state from, enum rdma_qp_state to,
                        uint32_t mask)
{
    if (from != to && !(mask & STATE))
        return false;
    mask &= ~(uint32_t)STATE;
    if (from > RDMA_QPS_ERR || type > RDMA_QP_UD)
        return false;
    if (to == RDMA_QPS_RESET || (to == RDMA_QPS_ERR && from != RDMA_QPS_RESET))
        return mask == 0;
    for (unsigned i = 0; i < G_N_ELEMENTS(transitions); i++) {
        if (transitions[i].from != from || transitions[i].to != to)
            continue;
        const struct attributes *attributes = attributes_of(&transitions[i], type);
        return attributes && (mask & attributes->required) == attributes->required &&
               !(mask & ~(attributes->required | attributes->optional));
    }
    return false;
}
