// SPDX-License-Identifier: BSD-3-Clause
// Compares the MQTT codec with node's mqtt-packet, in both directions and both versions.
//
//   node test_mqtt_packet.js path/to/mqtt_lines [NUMBER_OF_PACKETS [SEED]]
//
// mqtt_lines makes random packets, and damages every second one.
// - A packet that the codec accepts must be parsed by mqtt-packet to the same fields. mqtt-packet then
//   generates a packet of these fields, and the codec must decode that to them, too.
// - A packet that the codec refuses must be refused by mqtt-packet, or have a fault that mqtt-packet does
//   not look for. strict.js looks for those, and says which statement of the specification decides. The
//   codec's status must be that of one of the faults.
// What mqtt-packet gets wrong is listed in THEIRS, and each entry must occur in a long run.
// CHAINRING_SEED is the seed where none is given.
'use strict'
const { spawn } = require('child_process')
const readline = require('readline')
const { Module } = require('module')
const path = require('path')

// Debian's package lies where only Debian's node looks.
process.env.NODE_PATH = [process.env.NODE_PATH, '/usr/share/nodejs'].filter(Boolean).join(path.delimiter)
Module._initPaths()
const mqtt = require('mqtt-packet')
const { faults } = require('./strict')

const NAMES = {
  payloadFormatIndicator: 'payload_format_indicator', messageExpiryInterval: 'message_expiry_s', contentType: 'content_type',
  responseTopic: 'response_topic', correlationData: 'correlation_data', subscriptionIdentifier: 'subscription_ids',
  sessionExpiryInterval: 'session_expiry_s', assignedClientIdentifier: 'assigned_client_id', serverKeepAlive: 'server_keep_alive_s',
  authenticationMethod: 'authentication_method', authenticationData: 'authentication_data',
  requestProblemInformation: 'request_problem_information', willDelayInterval: 'will_delay_s',
  requestResponseInformation: 'request_response_information', responseInformation: 'response_information',
  serverReference: 'server_reference', reasonString: 'reason_string', receiveMaximum: 'receive_maximum',
  topicAliasMaximum: 'topic_alias_maximum', topicAlias: 'topic_alias', maximumQoS: 'maximum_qos', retainAvailable: 'retain_available',
  maximumPacketSize: 'maximum_packet_size', wildcardSubscriptionAvailable: 'wildcard_subscription_available',
  subscriptionIdentifiersAvailable: 'subscription_ids_available', sharedSubscriptionAvailable: 'shared_subscription_available',
  userProperties: 'user_properties'
}

const hex = (value) => Buffer.from(value).toString('hex')

function fieldText (value) {
  if (typeof value === 'boolean') return value ? '1' : '0'
  if (typeof value === 'number') return String(value)
  return hex(value)
}

function addProperties (fields, prefix, properties) {
  for (const [name, value] of Object.entries(properties || {})) {
    let text
    if (name === 'userProperties') {
      text = Object.entries(value).flatMap(([k, v]) => [v].flat().map((one) => hex(k) + ':' + hex(one))).sort().join(',')
    } else {
      text = [value].flat().map(fieldText).join(',')
    }
    fields[prefix + NAMES[name]] = text
  }
}

/** The fields of what mqtt-packet parsed, by the names that mqtt_lines gives them. */
function fieldsOfTheirs (packet, version) {
  const fields = { type: packet.cmd.toUpperCase() }
  const add = (name, value) => { fields[name] = fieldText(value) }
  switch (packet.cmd) {
    case 'connect':
      add('clean_start', packet.clean)
      add('keep_alive_s', packet.keepalive)
      add('client_id', packet.clientId)
      if (packet.will) {
        for (const name of ['topic', 'payload', 'qos', 'retain']) add('w.' + name, packet.will[name])
        addProperties(fields, 'w.p.', packet.will.properties)
      }
      if (packet.username !== undefined) add('user_name', packet.username)
      if (packet.password !== undefined) add('password', packet.password)
      break
    case 'connack':
      add('session_present', packet.sessionPresent)
      if (version === 5) add('reason', packet.reasonCode)
      else add('return_code', packet.returnCode)
      break
    case 'publish':
      for (const name of ['dup', 'qos', 'retain', 'topic', 'payload']) add(name, packet[name])
      if (packet.qos > 0) add('packet_id', packet.messageId)
      break
    case 'subscribe':
      fields.subscriptions = packet.subscriptions.map((s) =>
        [s.topic, s.qos, ...(version === 5 ? [s.nl, s.rap, s.rh] : [])].map(fieldText).join(':')).join(',')
      break
    case 'suback':
      fields.reasons = packet.granted.join(',')
      break
    case 'unsubscribe':
      fields.filters = packet.unsubscriptions.map(fieldText).join(',')
      break
    case 'unsuback':
      if (version === 5) fields.reasons = packet.granted.join(',')
      break
  }
  if (!['connect', 'connack', 'publish', 'pingreq', 'pingresp', 'disconnect', 'auth'].includes(packet.cmd)) {
    add('packet_id', packet.messageId)
  }
  if (version === 5 && ['puback', 'pubrec', 'pubrel', 'pubcomp', 'disconnect', 'auth'].includes(packet.cmd)) {
    add('reason', packet.reasonCode)
  }
  addProperties(fields, 'p.', packet.properties)
  return fields
}

/** The fields of a line of mqtt_lines. The order of user properties does not count, because mqtt-packet does not keep it. */
function fieldsOfOurs (text) {
  const [type, ...words] = text.split(' ')
  const fields = { type }
  for (const word of words) {
    const at = word.indexOf('=')
    const name = word.slice(0, at)
    const value = word.slice(at + 1)
    fields[name] = name.endsWith('user_properties') ? value.split(',').sort().join(',') : value
  }
  return fields
}

function differences (ours, theirs) {
  return [...new Set([...Object.keys(ours), ...Object.keys(theirs)])].filter((name) => ours[name] !== theirs[name])
}

/** What mqtt-packet parses, or why it does not. */
function parse (octets, version) {
  const parser = mqtt.parser({ protocolVersion: version })
  const packets = []
  let error
  parser.on('packet', (packet) => packets.push(packet))
  parser.on('error', (e) => { error = error || e })
  let left = 0
  try {
    left = parser.parse(octets)
  } catch (e) {
    error = error || e
  }
  if (!error && (packets.length !== 1 || left !== 0)) error = new Error('not one packet')
  return { packet: packets[0], error }
}

function emptyValueBeforeAnother (text) {
  const seen = new Map()
  for (const pair of text.split(',')) {
    const [name, value] = pair.split(':')
    if (seen.get(name) === '') return true
    seen.set(name, value)
  }
  return false
}

const anyUserProperties = (ours, test) => Object.entries(ours).some(([name, value]) => name.endsWith('user_properties') && test(value))

// Where mqtt-packet is wrong about packets that are valid: what it is, the statement that decides, and the test.
const THEIRS = [
  ['refuses an AUTH without reason code', 'section 3.15.2.1 of 5.0 lets it be left out', 'parse',
    (ours, octets, version, raw) => ours.type === 'AUTH' && octets.length === 2],
  ['refuses "Bad authentication method" in DISCONNECT', 'table 2-6 of 5.0 has it', 'parse',
    (ours) => ours.type === 'DISCONNECT' && ours.reason === '140'],
  ['loses the empty value of a user property that comes again', '[MQTT-3.3.2-17] of 5.0', 'fields',
    (ours, octets, version, raw) => anyUserProperties(raw, emptyValueBeforeAnother)],
  ['generates no CONNECT with a password and without a user name', 'section 3.1.2.9 of 5.0 allows it', 'generate',
    (ours, octets, version) => version === 5 && 'password' in ours && !('user_name' in ours)],
  ['generates no CONNECT with an empty client id that keeps its session', '[MQTT-3.1.3-8] leaves it to the server', 'generate',
    (ours) => ours.type === 'CONNECT' && ours.client_id === '' && ours.clean_start === '0']
].map(([what, why, stage, test]) => ({ what, why, stage, test, count: 0 }))

function excused (stage, ours, octets, version, raw) {
  const found = THEIRS.find((t) => t.stage === stage && t.test(ours, octets, version, raw))
  if (found) found.count++
  return found !== undefined
}

class Codec {
  constructor (program, seed) {
    this.process = spawn(program, [seed], { stdio: ['pipe', 'pipe', 'inherit'] })
    this.lines = readline.createInterface({ input: this.process.stdout })[Symbol.asyncIterator]()
  }

  /** Asks questions and returns their `count` answers. */
  async ask (questions, count) {
    this.process.stdin.write(questions)
    const answers = []
    while (answers.length < count) {
      const next = await this.lines.next()
      if (next.done) throw new Error('mqtt_lines ended')
      const [level, status, octets, ...text] = next.value.split(' ')
      answers.push({ level: Number(level), status, octets: Buffer.from(octets, 'hex'), text: text.join(' ') })
    }
    return answers
  }
}

let failures = 0
function fail (what, answer, detail) {
  if (++failures <= 20) {
    console.log(`${what}\n  MQTT level ${answer.level}, ${answer.status}, ${answer.octets.toString('hex').slice(0, 600)}\n` +
      `  ${answer.text.slice(0, 600)}\n  ${detail}`)
  }
}

const count = { accepted: 0, refused: 0, generated: 0, stricter: new Map() }

/** Compares one packet that the codec accepts. Returns what mqtt-packet generates of its fields. */
function compareAccepted (answer) {
  count.accepted++
  const ours = fieldsOfOurs(answer.text)
  const raw = Object.fromEntries(answer.text.split(' ').slice(1).map((word) => word.split('=')))
  const context = [ours, answer.octets, answer.level, raw]
  const found = faults(answer.octets, answer.level)
  if (found.length > 0) fail('the codec accepts a packet with a fault', answer, JSON.stringify(found))
  const { packet, error } = parse(answer.octets, answer.level)
  if (error) {
    if (!excused('parse', ...context)) fail('mqtt-packet refuses what the codec accepts', answer, error)
    return
  }
  const theirs = fieldsOfTheirs(packet, answer.level)
  const different = differences(ours, theirs)
  if (different.length > 0) {
    if (!excused('fields', ...context)) {
      fail('the fields differ', answer, different.map((n) => `${n}: ours ${ours[n]}, theirs ${theirs[n]}`).join('; ').slice(0, 400))
    }
    return
  }
  try {
    const again = mqtt.generate(packet, { protocolVersion: answer.level })
    count.generated++
    return { octets: again, ours, level: answer.level }
  } catch (e) {
    if (!excused('generate', ...context)) fail('mqtt-packet does not generate what it parsed', answer, e)
  }
}

function compareRefused (answer) {
  count.refused++
  const { error } = parse(answer.octets, answer.level)
  if (error) return
  const found = faults(answer.octets, answer.level)
  const fitting = found.find((f) => f.status === answer.status)
  if (!fitting) {
    fail('mqtt-packet accepts what the codec refuses', answer, `faults that are known: ${JSON.stringify(found)}`)
    return
  }
  const name = `${fitting.status}: ${fitting.what} (${fitting.why})`
  count.stricter.set(name, (count.stricter.get(name) || 0) + 1)
}

async function main () {
  const [program, packets = '20000', seed = process.env.CHAINRING_SEED || String(Math.floor(Math.random() * 2 ** 48))] = process.argv.slice(2)
  console.log(`seed ${seed}, mqtt-packet ${require('mqtt-packet/package.json').version}`)
  const codec = new Codec(program, seed)
  for (let left = Number(packets); left > 0; left -= 1000) {
    const batch = await codec.ask(`make ${Math.min(left, 1000)}\n`, Math.min(left, 1000))
    const generated = []
    for (const answer of batch) {
      if (answer.status !== 'ok') compareRefused(answer)
      else generated.push(compareAccepted(answer))
    }
    const asked = generated.filter(Boolean)
    const answers = await codec.ask(asked.map((g) => `decode ${g.level} ${g.octets.toString('hex')}\n`).join(''), asked.length)
    answers.forEach((answer, i) => {
      const different = answer.status === 'ok' ? differences(asked[i].ours, fieldsOfOurs(answer.text)) : [answer.status]
      if (different.length > 0) fail('mqtt-packet generates what the codec decodes to something else', answer, different)
    })
  }
  codec.process.stdin.end()
  console.log(`${count.accepted} packets accepted by both, ${count.generated} generated again, ${count.refused} refused`)
  console.log('mqtt-packet is wrong where it')
  for (const t of THEIRS) console.log(`  ${String(t.count).padStart(7)}  ${t.what}: ${t.why}`)
  console.log('mqtt-packet accepts')
  for (const [name, n] of [...count.stricter].sort()) console.log(`  ${String(n).padStart(7)}  ${name}`)
  // A long run meets each of them.
  if (Number(packets) >= 500000) {
    for (const t of THEIRS.filter((one) => one.count === 0)) {
      failures++
      console.log(`mqtt-packet no longer ${t.what}: remove this from THEIRS`)
    }
  }
  console.log(`${failures} differences`)
  return failures === 0 ? 0 : 1
}

main().then((code) => process.exit(code), (error) => { console.log(error); process.exit(1) })
