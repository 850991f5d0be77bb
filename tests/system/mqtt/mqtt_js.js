// SPDX-License-Identifier: BSD-3-Clause
// A client by MQTT.js: publishes messages at each QoS to a topic that it subscribes to, receives each of them, and
// prints "got N messages". It fails when the connection is refused, or ends.
//   node mqtt_js.js URL [JSON OPTIONS]
'use strict'
const fs = require('fs')
const mqtt = require('mqtt')
const options = Object.assign({ reconnectPeriod: 0, connectTimeout: 90000 }, JSON.parse(process.argv[3] || '{}'))
for (const name of ['ca', 'cert', 'key']) if (options[name]) options[name] = fs.readFileSync(options[name])
const client = mqtt.connect(process.argv[2], options)
const topic = 'js/' + process.pid
const sent = []
for (let n = 0; n < 30; ++n) sent.push(n % 3 + ':' + String.fromCharCode(97 + n % 26).repeat([1, 130, 65000][n % 3]))
const left = new Set(sent)
function fail (why) { console.error(String(why)); process.exit(1) }
client.on('error', fail)
client.on('close', () => { if (left.size) fail('the connection was closed') })
client.on('connect', () => client.subscribe(topic, { qos: 2 }, (error, granted) => {
  if (error || granted[0].qos !== 2) fail(error || 'the subscription was refused')
  for (const text of sent) client.publish(topic, text, { qos: Number(text[0]) }, error => { if (error) fail(error) })
}))
client.on('message', (_, payload) => {
  if (!left.delete(payload.toString())) fail('a message came twice, or was never sent')
  if (left.size === 0) client.end(false, {}, () => console.log('got ' + sent.length + ' messages'))
})
