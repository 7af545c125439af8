// A TAK client made of @tak-ps/node-tak, which we did not write. It takes
// commands as lines of JSON and prints what comes as lines of JSON:
//
//   node client.mjs HOST STREAM-PORT HTTPS-PORT CERT.pem KEY.pem [--v1]
//
// With --v1 the stream is our own socket and the library's protobuf form: the
// library negotiates no version.
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import tls from 'node:tls';
import TAK, { TAKAPI, APIAuthCertificate, CoT } from '@tak-ps/node-tak';
import { DirectChat, FileShare } from '@tak-ps/node-cot';

const [host, streamPort, httpsPort, certFile, keyFile, mode] = process.argv.slice(2);
const auth = { cert: readFileSync(certFile, 'utf8'), key: readFileSync(keyFile, 'utf8') };
const api = await TAKAPI.init(new URL(`https://${host}:${httpsPort}`), new APIAuthCertificate(auth.cert, auth.key));
const print = (o) => process.stdout.write(JSON.stringify(o) + '\n');
const show = (cot, form) => print({ event: cot.raw.event._attributes.type, uid: cot.uid(), callsign: cot.callsign(), form, raw: cot.raw.event });

let write;
if (mode === '--v1') {
    write = speakFrames();
} else {
    const tak = await TAK.connect('test', new URL(`ssl://${host}:${streamPort}`), auth);
    tak.on('cot', (cot) => show(cot, 'xml'));
    tak.on('ping', () => print({ event: 'ping', version: tak.version }));
    tak.on('error', (err) => print({ event: 'error', text: String(err) }));
    tak.on('end', () => print({ event: 'end' }));
    write = (cot) => tak.write([cot]);
}

// speakFrames asks for version 1 once it is offered, and speaks it then.
function speakFrames() {
    const socket = tls.connect({ host, port: Number(streamPort), rejectUnauthorized: false, ...auth });
    let buffer = Buffer.alloc(0), frames = false;
    const early = [];
    const frame = (cot) => {
        const body = Buffer.from(cot.to_proto());
        const head = [0xbf];
        for (let n = body.length; ; n >>>= 7) {
            if (n < 0x80) { head.push(n); break; }
            head.push(n & 0x7f | 0x80);
        }
        socket.write(Buffer.concat([Buffer.from(head), body]));
    };
    const document = (xml) => {
        const cot = new CoT(xml);
        const type = cot.raw.event._attributes.type;
        if (type === 't-x-takp-v') {
            const now = new Date().toISOString();
            socket.write(`<?xml version="1.0" encoding="UTF-8"?>\n<event version="2.0" uid="${cot.uid()}" type="t-x-takp-q" how="m-g" time="${now}" start="${now}" stale="${now}">` +
                '<point lat="0" lon="0" hae="0" ce="999999" le="999999"/><detail><TakControl><TakRequest version="1"/></TakControl></detail></event>');
        } else if (type === 't-x-takp-r') {
            frames = true;
            print({ event: 'negotiated' });
            early.splice(0).forEach(frame);
        } else {
            show(cot, 'xml');
        }
    };
    const take = () => {
        for (;;) {
            if (!frames) {
                const end = buffer.indexOf('</event>');
                if (end < 0) return;
                const text = buffer.subarray(0, end + 8).toString();
                buffer = buffer.subarray(end + 8);
                document(text.slice(text.indexOf('<event')));
                continue;
            }
            if (buffer.length < 2) return;
            if (buffer[0] !== 0xbf) throw new Error('no frame where one must be');
            let length = 0, at = 1;
            for (let shift = 0; ; shift += 7) {
                if (at >= buffer.length) return;
                length += (buffer[at] & 0x7f) * 2 ** shift;
                if (buffer[at++] < 0x80) break;
            }
            if (buffer.length < at + length) return;
            show(CoT.from_proto(buffer.subarray(at, at + length)), 'frame');
            buffer = buffer.subarray(at + length);
        }
    };
    socket.on('data', (data) => { buffer = Buffer.concat([buffer, data]); take(); });
    socket.on('error', (err) => print({ event: 'error', text: String(err) }));
    socket.on('end', () => print({ event: 'end' }));
    return (cot) => frames ? frame(cot) : early.push(cot);
}

const times = (seconds) => {
    const now = Date.now();
    return { time: new Date(now).toISOString(), start: new Date(now).toISOString(), stale: new Date(now + seconds * 1000).toISOString() };
};

const verbs = {
    position: ({ uid, callsign, lat, lon }) => write(new CoT({ event: {
        _attributes: { version: '2.0', uid, type: 'a-f-G-U-C', how: 'm-g', ...times(75) },
        point: { _attributes: { lat, lon, hae: 41.5, ce: 5, le: 9999999 } },
        detail: {
            contact: { _attributes: { callsign, endpoint: '*:-1:stcp' } },
            takv: { _attributes: { device: 'test', platform: 'node-tak', os: 'linux', version: '8.9.0' } },
            track: { _attributes: { speed: '1.5', course: '90' } },
        },
    } })),
    chat: ({ from, to, text }) => write(new DirectChat({ from, to, message: text })),
    share: async ({ file, uid, callsign, to }) => {
        const body = readFileSync(file);
        const hash = createHash('sha256').update(body).digest('hex');
        const url = await api.Files.uploadPackage({ name: 'ao.zip', creatorUid: uid, hash }, body);
        const cot = new FileShare({ filename: 'ao.zip', senderUrl: url, sizeInBytes: body.length, sha256: hash, senderUid: uid, senderCallsign: callsign, name: 'ao' });
        cot.raw.event.detail.ackrequest = { _attributes: { uid: 'ack-' + hash.slice(0, 8), ackrequested: 'true', tag: 'ao' } };
        cot.addDest({ callsign: to });
        write(cot);
        print({ event: 'shared', hash, url });
    },
    fetch: async ({ hash }) => {
        const sum = createHash('sha256');
        let size = 0;
        for await (const piece of await api.Files.download(hash)) {
            sum.update(piece);
            size += piece.length;
        }
        print({ event: 'fetched', hash: sum.digest('hex'), size });
    },
    list: async () => print({ event: 'list', list: await api.Package.list({ tool: 'public' }), contacts: await api.Contacts.list() }),
};

for await (const line of createInterface({ input: process.stdin })) {
    const command = JSON.parse(line);
    try {
        await verbs[command.do](command);
    } catch (err) {
        print({ event: 'failed', text: String(err?.safe ?? err) });
    }
}
process.exit(0);
