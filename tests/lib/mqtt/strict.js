// SPDX-License-Identifier: BSD-3-Clause
// Looks for the faults of an MQTT packet that mqtt-packet does not look for. It shares no code with the
// codec and none with mqtt-packet, and reads the octets itself.
'use strict'

const TYPES = ['', 'connect', 'connack', 'publish', 'puback', 'pubrec', 'pubrel', 'pubcomp', 'subscribe', 'suback', 'unsubscribe',
  'unsuback', 'pingreq', 'pingresp', 'disconnect', 'auth']
const ANSWERS = ['connack', 'puback', 'pubrec', 'pubrel', 'pubcomp', 'suback', 'unsuback', 'disconnect', 'auth']
const MESSAGE = ['publish', 'will']
const ENDS = ['connect', 'connack']
const EVERY = TYPES.slice(1).filter((t) => !t.startsWith('ping')).concat('will')

// Table 2-4 of MQTT 5.0: the form of each property, and who may have it.
const PROPERTIES = {
  1: ['flag', MESSAGE], 2: ['u32', MESSAGE], 3: ['text', MESSAGE], 8: ['topic', MESSAGE], 9: ['binary', MESSAGE],
  11: ['id', ['publish', 'subscribe']], 17: ['u32', [...ENDS, 'disconnect']], 18: ['text', ['connack']], 19: ['u16', ['connack']],
  21: ['text', [...ENDS, 'auth']], 22: ['binary', [...ENDS, 'auth']], 23: ['flag', ['connect']], 24: ['u32', ['will']],
  25: ['flag', ['connect']], 26: ['text', ['connack']], 28: ['text', ['connack', 'disconnect']], 31: ['text', ANSWERS],
  33: ['positive16', ENDS], 34: ['u16', ENDS], 35: ['alias', ['publish']], 36: ['flag', ['connack']], 37: ['flag', ['connack']],
  38: ['pair', EVERY], 39: ['positive32', ENDS], 40: ['flag', ['connack']], 41: ['flag', ['connack']], 42: ['flag', ['connack']]
}
const CONNACK_CODES = [0, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x8c, 0x90, 0x95, 0x97, 0x99, 0x9a, 0x9b, 0x9c,
  0x9d, 0x9f]

class Cut extends Error {}
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

class Walker {
  constructor (octets, found) {
    this.octets = octets
    this.at = 0
    this.found = found
  }

  fault (status, what, why) { this.found.push({ status, what, why }) }
  malformed (what, why) { this.fault('malformed', what, why) }
  protocol (what, why) { this.fault('protocol_error', what, why) }
  get left () { return this.octets.length - this.at }

  take (n) {
    if (this.left < n) throw new Cut()
    this.at += n
    return this.octets.subarray(this.at - n, this.at)
  }

  u8 () { return this.take(1)[0] }
  u16 () { return this.take(2).readUInt16BE() }
  u32 () { return this.take(4).readUInt32BE() }
  binary () { return this.take(this.u16()) }

  variable () {
    let value = 0
    for (let i = 0; i < 4; i++) {
      const octet = this.u8()
      value += (octet & 0x7f) * 128 ** i
      if (octet < 128) {
        if (octet === 0 && i > 0) this.malformed('a variable byte integer that is longer than necessary', '[MQTT-1.5.5-1] of 5.0')
        return value
      }
    }
    throw new Cut()
  }

  text () {
    const octets = this.binary()
    try {
      const text = utf8.decode(octets)
      if (text.includes('\0')) this.malformed('U+0000 in a string', '[MQTT-1.5.3-2] of 3.1.1, [MQTT-1.5.4-2] of 5.0')
      return text
    } catch (e) {
      this.malformed('a string that is not UTF-8', '[MQTT-1.5.3-1] of 3.1.1, [MQTT-1.5.4-1] of 5.0')
      return octets.toString('latin1')
    }
  }

  topic (mayBeEmpty = false) {
    const name = this.text()
    if (/[+#]/.test(name)) {
      this.malformed('a topic name with a wildcard', '[MQTT-3.3.2-2], [MQTT-4.7.1-1] of 3.1.1, [MQTT-3.3.2-14] and [MQTT-4.7.0-1] of 5.0')
    }
    if (name === '' && !mayBeEmpty) this.malformed('an empty topic name', '[MQTT-4.7.3-1]')
    return name
  }

  filter (v5) {
    const text = this.text()
    let plain = text
    const shared = v5 && text.startsWith('$share/')
    if (shared) {
      const parts = /^\$share\/([^/+#]+)\/([^]*)$/.exec(text)
      if (!parts) this.malformed('a shared subscription without share name or filter', '[MQTT-4.8.2-1] and [MQTT-4.8.2-2] of 5.0')
      plain = parts ? parts[2] : 'x'
    }
    if (plain === '') this.malformed('an empty filter', '[MQTT-4.7.3-1]')
    plain.split('/').forEach((level, i, levels) => {
      if ((level.includes('+') && level !== '+') || (level.includes('#') && (level !== '#' || i + 1 !== levels.length))) {
        this.malformed('a filter with a wildcard where none may be',
          '[MQTT-4.7.1-2] and [MQTT-4.7.1-3] of 3.1.1, [MQTT-4.7.1-1] and [MQTT-4.7.1-2] of 5.0')
      }
    })
    return shared
  }

  id () {
    if (this.u16() === 0) this.protocol('packet identifier 0', '[MQTT-2.3.1-1] of 3.1.1, [MQTT-2.2.1-3] of 5.0')
  }

  properties (owner) {
    const section = new Walker(this.take(this.variable()), this.found)
    const seen = new Set()
    while (section.left > 0) {
      const id = section.u8()
      const [form, owners] = PROPERTIES[id] || ['', []]
      if (!owners.includes(owner)) {
        this.malformed('a property that the packet may not have', 'section 2.2.2.2 of 5.0')
        throw new Cut()
      }
      const repeatable = form === 'pair' || (form === 'id' && owner === 'publish')
      if (seen.has(id) && !repeatable) this.protocol('a property that comes twice', 'sections 3.1.2.11.2 to 3.15.2.2.5 of 5.0')
      seen.add(id)
      section.value(form)
    }
    if (seen.has(22) && !seen.has(21)) this.protocol('authentication data without method', 'section 3.1.2.11.10 of 5.0')
    return seen
  }

  value (form) {
    const positive = (value) => {
      if (value === 0) this.protocol('a property that must not be 0', 'sections 3.1.2.11.3, 3.1.2.11.4 and 3.8.2.1.2 of 5.0')
    }
    switch (form) {
      case 'flag':
        if (this.u8() > 1) this.protocol('a property that is neither 0 nor 1', 'sections 3.1.2.11.6 to 3.2.2.3.13 of 5.0')
        break
      case 'u16': this.u16(); break
      case 'u32': this.u32(); break
      case 'positive16': positive(this.u16()); break
      case 'positive32': positive(this.u32()); break
      case 'id': positive(this.variable()); break
      case 'alias':
        if (this.u16() === 0) this.fault('topic_alias_invalid', 'topic alias 0', '[MQTT-3.3.2-8] of 5.0')
        break
      case 'text': this.text(); break
      case 'topic': this.topic(); break
      case 'binary': this.binary(); break
      case 'pair': this.text(); this.text(); break
    }
  }
}

const READ = {
  connect (w) {
    const name = w.text()
    const level = w.u8()
    if (name !== 'MQTT') return w.fault('unknown_protocol', 'a protocol name other than MQTT', '[MQTT-3.1.2-1]')
    if (level !== 4 && level !== 5) return w.fault('unknown_level', 'a level other than 4 and 5', '[MQTT-3.1.2-2]')
    const v5 = level === 5
    const flags = w.u8()
    if ((flags & 0x1c) === 0x1c) w.malformed('a will QoS of 3', '[MQTT-3.1.2-14]')
    if (!v5 && (flags & 0xc0) === 0x40) w.malformed('a password without user name', '[MQTT-3.1.2-22] of 3.1.1')
    w.u16()
    if (v5) w.properties('connect')
    w.text()
    if (flags & 0x04) {
      if (v5) w.properties('will')
      w.topic()
      w.binary()
    }
    if (flags & 0x80) w.text()
    if (flags & 0x40) w.binary()
  },
  connack (w, v5) {
    const present = w.u8()
    const code = w.u8()
    if (v5 ? !CONNACK_CODES.includes(code) : code > 5) w.protocol('a reason that CONNACK has not', 'table 3.1 of 3.1.1, [MQTT-3.2.2-8] of 5.0')
    if (present && code) w.protocol('a session that is present although CONNACK refuses', '[MQTT-3.2.2-4] of 3.1.1, [MQTT-3.2.2-6] of 5.0')
    if (v5) w.properties('connack')
  },
  publish (w, v5, flags) {
    const topic = w.topic(v5)
    if (flags & 6) w.id()
    const seen = v5 ? w.properties('publish') : new Set()
    if (v5 && topic === '' && !seen.has(35)) w.protocol('an empty topic name without topic alias', 'section 3.3.2.1 of 5.0')
    w.at = w.octets.length
  },
  ack (w, v5, flags, type) {
    w.id()
    if (v5 && w.left > 0) w.u8()
    if (v5 && w.left > 0) w.properties(type)
  },
  subscribe (w, v5) {
    w.id()
    if (v5) w.properties('subscribe')
    if (w.left === 0) w.protocol('a SUBSCRIBE without filters', '[MQTT-3.8.3-3] of 3.1.1, [MQTT-3.8.3-2] of 5.0')
    while (w.left > 0) {
      const shared = w.filter(v5)
      if (shared && (w.octets[w.at] & 4)) w.protocol('No Local on a shared subscription', '[MQTT-3.8.3-4] of 5.0')
      w.u8()
    }
  },
  unsubscribe (w, v5) {
    w.id()
    if (v5) w.properties('unsubscribe')
    if (w.left === 0) w.protocol('an UNSUBSCRIBE without filters', '[MQTT-3.10.3-2]')
    while (w.left > 0) w.filter(v5)
  },
  reasons (w, v5, flags, type) {
    w.id()
    if (v5) w.properties(type)
    if (!v5 && type === 'unsuback') return
    if (w.left === 0) w.protocol('an answer without reasons', '[MQTT-3.8.4-5] of 3.1.1, [MQTT-3.8.4-6] and [MQTT-3.11.3-1] of 5.0')
    w.at = w.octets.length
  },
  disconnect (w, v5) {
    if (v5 && w.left > 0) w.u8()
    if (v5 && w.left > 0) w.properties('disconnect')
  },
  auth (w, v5) {
    if (w.left === 0) return
    w.u8()
    if (!w.properties('auth').has(21)) w.protocol('an AUTH without method', 'section 3.15.2.2.2 of 5.0')
  },
  bare () {}
}
for (const type of ['puback', 'pubrec', 'pubrel', 'pubcomp']) READ[type] = READ.ack
for (const type of ['suback', 'unsuback']) READ[type] = READ.reasons
for (const type of ['pingreq', 'pingresp']) READ[type] = READ.bare

/** The faults of a packet of this protocol level, each {status, what, why}. An empty list says nothing about faults that mqtt-packet finds. */
function faults (octets, level) {
  const found = []
  let v5 = level === 5
  let header = 1
  let length = 0
  do length += (octets[header] & 0x7f) * 128 ** (header - 1)
  while (octets[header++] >= 128)
  const type = TYPES[octets[0] >> 4]
  const w = new Walker(octets.subarray(header), found)
  // The first octet shows this, whether the rest is there or not.
  if (type === 'publish' && (octets[0] & 14) === 8) w.malformed('DUP at QoS 0', '[MQTT-3.3.1-2]')
  if (octets.length !== header + length) {
    w.fault('not_one_packet', 'a packet of another length', 'section 2.2.3 of 3.1.1, 2.1.4 of 5.0')
    return found
  }
  if (type === 'connect') {
    const name = w.octets.length >= 7 ? w.octets.toString('latin1', 2, 6) : ''
    v5 = name === 'MQTT' && w.octets[6] === 5
  }
  if (header > 2 && octets[header - 1] === 0 && v5) w.malformed('a remaining length that is longer than necessary', '[MQTT-1.5.5-1] of 5.0')
  try {
    READ[type](w, v5, octets[0] & 15, type)
    if (w.left > 0 && !found.some((f) => f.status.startsWith('unknown'))) {
      w.malformed('octets behind the last field', 'section 1.2 of 5.0: it cannot be parsed')
    }
  } catch (e) {
    if (!(e instanceof Cut)) throw e
    w.malformed('a field that ends behind the packet or its section', 'section 1.2 of 5.0: it cannot be parsed')
  }
  return found
}

module.exports = { faults }
