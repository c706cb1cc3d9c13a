/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest's network: the loopback interface, and addresses that the host hands out by
 * lodge.ip=, so that a guest needs neither a DHCP client nor the time that one takes (IPv4 only).
 */
#include "guest-images/init/init.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <net/route.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define INTERFACE_WAIT 5000 /* ms for the interface to appear */

static bool interface_up(int fd, const char *name)
{
    struct ifreq request = {0};

    snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
    if (ioctl(fd, SIOCGIFFLAGS, &request))
        return false;
    request.ifr_flags |= IFF_UP;
    return ioctl(fd, SIOCSIFFLAGS, &request) == 0;
}

void net_loopback(void)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    if (fd >= 0) {
        interface_up(fd, "lo");
        close(fd);
    }
}

static struct sockaddr_in to_address(const char *spec, const char *text)
{
    struct sockaddr_in address = {.sin_family = AF_INET};

    if (inet_pton(AF_INET, text, &address.sin_addr) != 1)
        fail(LODGE_STATUS_FAILED, "net", "lodge.ip=%s: %s is not an IPv4 address", spec, text);
    return address;
}

static void set_address(int fd, const char *spec, const char *name, char *text)
{
    struct ifreq request = {0};
    unsigned long prefix = 24;
    char *slash = strchr(text, '/');
    struct sockaddr_in address;

    if (slash) {
        *slash++ = 0;
        if (!parse_unsigned(slash, 32, &prefix))
            fail(LODGE_STATUS_FAILED, "net", "lodge.ip=%s: prefix /%s is not 0 to 32", spec, slash);
    }
    snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
    address = to_address(spec, text);
    memcpy(&request.ifr_addr, &address, sizeof(address));
    if (ioctl(fd, SIOCSIFADDR, &request))
        fail(LODGE_STATUS_FAILED, "net", "cannot set address %s of %s: %s", text, name,
             strerror(errno));
    address.sin_addr.s_addr = prefix ? htonl(~0u << (32 - prefix)) : 0;
    memcpy(&request.ifr_netmask, &address, sizeof(address));
    if (ioctl(fd, SIOCSIFNETMASK, &request))
        fail(LODGE_STATUS_FAILED, "net", "cannot set the netmask of %s: %s", name, strerror(errno));
}

static void set_gateway(int fd, const char *spec, const char *text)
{
    struct rtentry route = {.rt_flags = RTF_UP | RTF_GATEWAY};
    struct sockaddr_in any = {.sin_family = AF_INET}, gateway = to_address(spec, text);

    memcpy(&route.rt_dst, &any, sizeof(any));
    memcpy(&route.rt_genmask, &any, sizeof(any));
    memcpy(&route.rt_gateway, &gateway, sizeof(gateway));
    if (ioctl(fd, SIOCADDRT, &route) && errno != EEXIST)
        fail(LODGE_STATUS_FAILED, "net", "cannot set gateway %s: %s", text, strerror(errno));
}

/* The host's resolv.conf (often a link into its /run) doesn't fit the guest. */
static void set_name_server(const char *spec, const char *text)
{
    char *line = must_format("nameserver %s\n", text);
    int fd;

    to_address(spec, text);
    unlink("/etc/resolv.conf");
    fd = open("/etc/resolv.conf", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0 || write(fd, line, strlen(line)) < 0) /* a root that is read-only: no loss */
        say("cannot write /etc/resolv.conf: %s", strerror(errno));
    if (fd >= 0)
        close(fd);
    free(line);
}

void net_configure(const char *spec)
{
    uint64_t until = now_ns() + (uint64_t)INTERFACE_WAIT * 1000000;
    char *copy = must_format("%s", spec), *part[4] = {0}, *rest = copy;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    for (int i = 0; i < 4 && rest; i++)
        part[i] = strsep(&rest, ":");
    if (!part[1] || rest || strlen(part[0]) >= IFNAMSIZ)
        fail(LODGE_STATUS_FAILED, "net",
             "lodge.ip=%s: expected INTERFACE:ADDRESS[/PREFIX][:GATEWAY[:NAMESERVER]]", spec);
    while (fd >= 0 && !interface_up(fd, part[0])) {
        if (now_ns() > until)
            fail(LODGE_STATUS_FAILED, "net", "cannot bring up network interface %s: %s", part[0],
                 strerror(errno));
        sleep_ms(2);
    }
    if (fd < 0)
        fail(LODGE_STATUS_FAILED, "net", "the kernel has no IPv4: %s", strerror(errno));
    set_address(fd, spec, part[0], part[1]);
    if (part[2] && *part[2])
        set_gateway(fd, spec, part[2]);
    if (part[3] && *part[3])
        set_name_server(spec, part[3]);
    close(fd);
    free(copy);
}

static bool parse_mac(const char *text, unsigned char mac[6])
{
    unsigned part[6];

    if (sscanf(text, "%2x:%2x:%2x:%2x:%2x:%2x", &part[0], &part[1], &part[2], &part[3], &part[4],
               &part[5]) != 6)
        return false;
    for (int i = 0; i < 6; i++)
        mac[i] = (unsigned char)part[i];
    return true;
}

void net_set_mac(const char *spec)
{
    const char *comma = strchr(spec, ',');
    struct if_nameindex *interfaces = if_nameindex();
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    unsigned char before[6], after[6];
    bool set = false;

    if (!comma || !parse_mac(spec, before) || !parse_mac(comma + 1, after))
        fail(LODGE_STATUS_FAILED, "copy", "COPY: mac=%s is not BEFORE,AFTER", spec);
    for (struct if_nameindex *i = interfaces; fd >= 0 && i && i->if_index && !set; i++) {
        struct ifreq request = {0};

        snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", i->if_name);
        if (ioctl(fd, SIOCGIFHWADDR, &request) || memcmp(request.ifr_hwaddr.sa_data, before, 6))
            continue;
        memcpy(request.ifr_hwaddr.sa_data, after, 6);
        set = ioctl(fd, SIOCSIFHWADDR, &request) == 0;
    }
    if (!set)
        say("no interface takes the address %s", comma + 1);
    if (interfaces)
        if_freenameindex(interfaces);
    if (fd >= 0)
        close(fd);
}
