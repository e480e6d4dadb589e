/**
 * Calls what the addon exports with every wrong value for every argument; a program of its own, since what it looks for ends a
 * process. Prints one line of JSON a call when it begins (`call`) and one when the answer is not as it should be (`wrong`), and at
 * last {done}. So whoever reads knows the call that the process died of.
 *
 *     node wrong-arguments.cjs ADDON arguments | memory | descriptors [privileged]
 */
const { execFileSync } = require('node:child_process');
const { closeSync, mkdtempSync, openSync, readdirSync, readlinkSync, readFileSync, rmSync, writeSync } = require('node:fs');
const { join } = require('node:path');

const [, , path, what, privilege] = process.argv;
const isPrivileged = privilege === 'privileged';
const addon = require(path);
const ACCEPT_ALL = Uint32Array.of(6, 0x40000);

const tell = (line) => writeSync(1, `${JSON.stringify(line)}\n`);

// ---- values

/** Wrong wherever something else than a number is wanted, or a number. */
const ODD = {
  undefined: undefined,
  null: null,
  true: true,
  'a bigint': 1n,
  'a symbol': Symbol('s'),
  'an array': [1],
  'an object': { valueOf: () => 1, toString: () => '1' },
  'a function': () => 1,
  'a date': new Date(1),
};
const throwing = (...keys) => {
  const object = {};
  for (const key of keys)
    Object.defineProperty(object, key, {
      get() {
        throw new RangeError(`the getter of ${key}`);
      },
    });
  return object;
};

function detached(Type, length) {
  const array = new Type(length);
  structuredClone(array.buffer, { transfer: [array.buffer] });
  return array;
}

/** Its buffer shrank below what is wanted; undefined where this Node knows no such buffers. */
function shrunk(Type, length) {
  const buffer = new ArrayBuffer(length * Type.BYTES_PER_ELEMENT, { maxByteLength: length * 8 });
  if (!buffer.resizable) return undefined;
  const array = new Type(buffer);
  buffer.resize(4);
  return array;
}

// ---- parameters: {name, wrong: {label: value}, refused: {label: [value, code]}}. `wrong` must throw a TypeError with `name`,
// `refused` an error with `code`.

function integer(name, low, high) {
  const wrong = {
    ...ODD,
    'a text': String(low),
    NaN: Number.NaN,
    Infinity,
    '-Infinity': -Infinity,
    'a half': low + 0.5,
    'one below': low - 1,
    'one above': high + 1,
    // The same 32 bits, and the same 52.
    '2**32 more': low + 2 ** (high < 2 ** 31 ? 32 : 40),
    '2**52 more': low + 2 ** 52,
    '2**53': 2 ** 53,
    'the largest': Number.MAX_VALUE,
  };
  return { name, wrong, range: `from ${low} to ${high}` };
}

function text(name, most) {
  const wrong = { ...ODD, 7: 7, empty: '', 'a NUL': '1\0', 'only a NUL': '\0', 'too long': 'x'.repeat(most + 1) };
  wrong['too long in bytes'] = 'é'.repeat(Math.ceil((most + 1) / 2));
  wrong['huge'] = 'x'.repeat(2 ** 28);
  return { name, wrong, range: `1 to ${most} bytes` };
}

/** A quarter of a gigabyte is tried once, in `text`: it takes its time. */
const socketPath = () => ({ ...text('path', 107), wrong: without(text('path', 107).wrong, 'huge') });

/** Descriptors that this process has and lb4 did not make: Node's own loop first of all. */
function strangers() {
  const found = { 'one that is not open': [99999, 'EBADF'], 'the largest': [2 ** 31 - 1, 'EBADF'] };
  for (const fd of readdirSync('/proc/self/fd')) {
    try {
      const target = readlinkSync(`/proc/self/fd/${fd}`);
      if (!/lb4|eventfd/.test(target) && ![shared.listening, inbox].includes(Number(fd))) found[target] ??= [Number(fd), 'EINVAL'];
    } catch {} // the directory itself
  }
  return found;
}

function descriptor(name, refused) {
  return { ...integer(name, 0, 2 ** 31 - 1), refused: { ...strangers(), ...refused } };
}

/** Whatever is open may be asked; only files have locks. */
const fileDescriptor = () => ({ ...integer('fd', 0, 2 ** 31 - 1), refused: { 'one that is not open': [99999, 'EBADF'] } });

const address = (name) => integer(name, -(2 ** 31), 2 ** 32 - 1);

/** By IPv4, or of 16 bytes by IPv6. */
const anyAddress = {
  name: 'address',
  wrong: {
    ...address('address').wrong,
    'four bytes': new Uint8Array(4),
    'sixteen words': new Uint16Array(16),
    detached: detached(Uint8Array, 16),
    shrunk: shrunk(Uint8Array, 16),
    'an ArrayBuffer': new ArrayBuffer(16),
  },
};

const frames = (slab) => ({
  name: 'frames',
  wrong: {
    ...ODD,
    'an Int32Array without room': new Int32Array(15),
    'an empty one': new Int32Array(0),
    detached: detached(Int32Array, 600),
    shrunk: shrunk(Int32Array, 600),
    'a Uint32Array': new Uint32Array(600),
    'a Float64Array': new Float64Array(600),
    'a DataView': new DataView(new ArrayBuffer(4096)),
    'an ArrayBuffer': new ArrayBuffer(4096),
    'a Proxy': new Proxy(new Int32Array(600), {}),
    'the ring': new Int32Array(slab, 0, 600),
    "the ring's end": new Int32Array(slab, slab.byteLength - 2400, 600),
  },
});

const filter = program('filter');

function program(name) {
  const wrong = {
    ...ODD,
    empty: new Uint32Array(0),
    'half an instruction': Uint32Array.of(6),
    'too many instructions': new Uint32Array(2 * 4097),
    detached: detached(Uint32Array, 2),
    shrunk: shrunk(Uint32Array, 2),
    'an Int32Array': Int32Array.of(6, 0),
    'an ArrayBuffer': new ArrayBuffer(8),
  };
  const refused = { 'no program': [Uint32Array.of(0xffff, 0), 'EINVAL'], 'a jump out of it': [Uint32Array.of(0x05, 1000), 'EINVAL'] };
  return { name, wrong, refused };
}

// ---- the table: of each export, arguments that are right and what each may be

const scratch = mkdtempSync('/dev/shm/lb4-arguments-');
const file = openSync(join(scratch, 'file'), 'w+');
process.on('exit', () => rmSync(scratch, { recursive: true }));

const memory = addon.createSharedMemory('lb4-arguments', 4096);
let sockets = 0;
const inbox = addon.openDatagram(join(scratch, 'inbox'));
/** The inbox's path, with nothing unread in it. */
function emptied() {
  try {
    for (;;) addon.receiveDatagram(inbox).descriptors.forEach(addon.closeFd);
  } catch {}
  return join(scratch, 'inbox');
}
const listening = () => addon.listenTcp('127.0.0.1', 0, 1);

/** Of `fanOut`, which only packet sockets are right for. */
const fanOutDescriptors = () => ({
  name: 'fds',
  wrong: {
    ...without(ODD, 'an array'),
    7: 7,
    none: [],
    'too many': Array.from({ length: 257 }, () => shared.listening),
    'of texts': ['1'],
    'of nothing': [undefined],
  },
  refused: Object.fromEntries(Object.entries(strangers()).map(([label, [fd, code]]) => [label, [[fd], code]])),
});

const ports = () => ({
  name: 'ports',
  wrong: {
    ...without(ODD, 'an array'),
    7: 7,
    'too many': Array.from({ length: 65 }, () => 1),
    'of texts': ['1'],
    'of nothing': [undefined],
  },
});

/** {name: {good, parameters, undo?}}: `undo` takes what a good call returned. */
function functions() {
  return {
    fanOut: { parameters: [fanOutDescriptors()] },
    steer: { parameters: [integer('fd', 0, 2 ** 31 - 1)] },
    wake: { parameters: [descriptor('wakeFd', { 'shared memory': [memory.fd, 'EINVAL'] })] },
    createSharedMemory: {
      good: () => ['lb4-x', 4096],
      parameters: [text('name', 249), integer('bytes', 1, 2 ** 32)],
      undo: ({ fd }) => addon.closeFd(fd),
    },
    mapSharedMemory: { good: () => [memory.fd], parameters: [descriptor('fd', {})] },
    allocateFile: { good: () => [file, 4096], parameters: [fileDescriptor(), integer('bytes', 1, 2 ** 32)] },
    closeFd: { good: () => [listening()], parameters: [descriptor('fd', {})] },
    listenTcp: {
      good: () => ['127.0.0.1', 0, 16],
      parameters: [
        {
          ...text('host', 45),
          refused: { 'a name': ['localhost', 'EINVAL'], 'a scope': ['fe80::1%lo', 'EINVAL'], foreign: ['192.0.2.1', 'EADDRNOTAVAIL'] },
        },
        integer('port', 0, 65535),
        integer('backlog', 1, 2 ** 31 - 1),
      ],
      undo: addon.closeFd,
    },
    duplicateFd: {
      good: () => [shared.listening],
      parameters: [descriptor('fd', { 'shared memory': [memory.fd, 'EINVAL'] })],
      undo: addon.closeFd,
    },
    openDatagram: {
      good: () => [join(scratch, `socket-${sockets++}`)],
      parameters: [
        {
          ...socketPath(),
          refused: { 'no directory': ['/dev/null/socket', 'ENOTDIR'], taken: [join(scratch, 'file'), 'EADDRINUSE'] },
        },
      ],
      undo: closeSync,
    },
    sendDatagram: {
      good: () => [emptied(), 'x', [shared.listening]],
      parameters: [
        {
          ...socketPath(),
          refused: { nobody: [join(scratch, 'nobody'), 'ENOENT'], 'nobody, abstract': ['@lb4-nobody', 'ECONNREFUSED'] },
        },
        { ...text('text', 65536), wrong: without(text('text', 65536).wrong, 'huge') },
        {
          name: 'descriptors',
          wrong: {
            ...without(ODD, 'an array'),
            7: 7,
            'too many': Array.from({ length: 254 }, () => shared.listening),
            'of texts': ['1'],
            'of nothing': [undefined],
          },
          refused: { 'shared memory': [[memory.fd], 'EINVAL'], 'one that is not open': [[99999], 'EINVAL'] },
        },
      ],
    },
    receiveDatagram: {
      good: () => {
        addon.sendDatagram(emptied(), 'x', [shared.listening]);
        return [inbox];
      },
      parameters: [descriptor('fd', { 'shared memory': [memory.fd, 'EINVAL'], 'a listening socket': [shared.listening, 'EINVAL'] })],
      undo: ({ descriptors }) => descriptors.forEach(addon.closeFd),
    },
    tryLockFile: { good: () => [file], parameters: [fileDescriptor()] },
    unlockFile: { good: () => [file], parameters: [fileDescriptor()] },
    isFileLocked: { good: () => [file], parameters: [fileDescriptor()] },
    cut: {
      good: () => [new ArrayBuffer(64), 0, false, 1500],
      parameters: [
        { name: 'packet', wrong: { ...ODD, 'a typed array': new Uint8Array(64), 'too large': new ArrayBuffer(2 ** 20 + 1) } },
        integer('segment', 0, 65535),
        { name: 'partial', wrong: { ...without(ODD, 'true'), 1: 1 } },
        integer('mtu', 1, 65535),
      ],
    },
    sendPackets: {
      // None: the socket would need a privilege.
      good: () => [new ArrayBuffer(0), 40],
      parameters: [
        { name: 'packets', wrong: { ...ODD, 'a typed array': new Uint8Array(64), 'too large': new ArrayBuffer(2 ** 20 + 1) } },
        integer('bytes', 20, 65535),
      ],
    },
    pinThread: {
      // Wherever it runs already.
      good: () => [addon.threadCpus()],
      parameters: [
        {
          name: 'cpus',
          wrong: {
            ...without(ODD, 'an array'),
            7: 7,
            'a typed array': Uint32Array.of(0),
            'of nothing': [],
            'of undefined': [undefined],
            'of texts': ['0'],
            'of halves': [0.5],
            'below 0': [-1],
            'above 8191': [8192],
            'too many': Array.from({ length: 8193 }, () => 0),
          },
          refused: { 'one that no host has': [[8191], 'EINVAL'] },
        },
      ],
    },
    threadCpus: { good: () => [], parameters: [] },
    usableCpus: { good: () => [], parameters: [] },
    endWithParent: { good: () => [], parameters: [] },
    // With a right one it begins anew.
    confine: {
      valid: () => [[]],
      parameters: [
        {
          name: 'keep',
          wrong: {
            ...without(ODD, 'an array'),
            7: 7,
            'a typed array': Uint32Array.of(0),
            'of undefined': [undefined],
            'of texts': ['0'],
            'of halves': [0.5],
            'below 0': [-1],
            'above 63': [64],
            'too many': Array.from({ length: 65 }, () => 0),
          },
        },
        {
          name: 'open',
          wrong: {
            ...without(ODD, 'an array'),
            7: 7,
            'of texts': ['1'],
            'of nothing': [undefined],
            'below 0': [-1],
            'too many': Array.from({ length: 17 }, () => 0),
          },
        },
      ],
    },
    networkCookie: { good: () => [], parameters: [] },
    ...bpfFunctions(),
    sum: {
      good: () => [new ArrayBuffer(8), 0, 8],
      parameters: [
        {
          name: 'buffer',
          wrong: {
            ...ODD,
            'a typed array': new Uint8Array(8),
            shared: new SharedArrayBuffer(8),
            'a DataView': new DataView(new ArrayBuffer(8)),
          },
        },
        integer('offset', 0, 8),
        integer('length', 0, 8),
      ],
    },
  };
}

/** What needs privileges, or more than a descriptor, to do something: by its first argument. test/netns/fast-path.test.ts calls them rightly. */
function bpfFunctions() {
  const fd = (name) => ({ ...integer(name, 0, 2 ** 31 - 1) });
  const ifindex = integer('ifindex', 1, 2 ** 31 - 1);
  const bytes = (name, most) => ({
    name,
    wrong: {
      ...ODD,
      empty: new Uint8Array(0),
      'too long': new Uint8Array(most + 1),
      words: new Uint32Array(4),
      detached: detached(Uint8Array, 16),
    },
  });
  return {
    loadFastPath: { parameters: [bytes('object', 2 ** 20)] },
    mapId: { parameters: [fd('map')] },
    mapArray: { parameters: [fd('map')] },
    pinBpf: { parameters: [fd('fd')] },
    openPinned: { parameters: [{ ...text('path', 255), wrong: without(text('path', 255).wrong, 'huge') }] },
    linkProgram: { parameters: [fd('program')] },
    updateLink: { parameters: [fd('link')] },
    linkedInterface: { parameters: [fd('link')] },
    detachLink: { parameters: [fd('link')] },
    tcxPrograms: { parameters: [ifindex] },
    openLinks: { parameters: [integer('program', 1, 2 ** 31 - 1)] },
    attachClsact: { parameters: [fd('program')] },
    detachClsact: { parameters: [ifindex] },
    clsactProgram: { parameters: [ifindex] },
    xdpProgram: { parameters: [ifindex] },
    takesRedirected: { parameters: [ifindex] },
    programName: { parameters: [integer('id', 1, 2 ** 31 - 1)] },
    setElement: { parameters: [fd('map')] },
    createArray: { parameters: [bytes('bytes', 2 ** 27)] },
    perCpuSums: { parameters: [fd('map')] },
    filterBy: { parameters: [fd('socket')] },
    testRun: { parameters: [fd('program')] },
  };
}

const shared = { listening: listening() };

function routeSocket() {
  const question = {
    good: () => [0x0100007f, 0, 0, 0],
    parameters: [address('destination'), address('source'), integer('port', 0, 65535), integer('protocol', 0, 255)],
  };
  const methods = {
    route: question,
    links: question,
    neighbour: { good: () => [1, 0x0100007f], parameters: [integer('ifindex', 1, 2 ** 31 - 1), anyAddress] },
    isSilent: { good: () => [1, 0x0100007f], parameters: [integer('ifindex', 1, 2 ** 31 - 1), anyAddress] },
    solicit: { good: () => [1, 0x0100007f], parameters: [integer('ifindex', 1, 2 ** 31 - 1), anyAddress] },
    interfaces: { good: () => [], parameters: [] },
    watch: { good: () => [() => {}], parameters: [{ name: 'changed', wrong: { ...without(ODD, 'a function'), 'a number': 1 } }] },
    close: { good: () => [], parameters: [] },
  };
  return { make: () => new addon.RouteSocket(), one: new addon.RouteSocket(), methods, constructor: { good: () => [], parameters: [] } };
}

function logWriter() {
  const make = () => new addon.LogWriter(file, 4096);
  const open = Object.entries(strangers()).filter(([, [, code]]) => code === 'EBADF');
  const constructor = {
    good: () => [file, 4096],
    parameters: [{ ...integer('fd', 0, 2 ** 31 - 1), refused: Object.fromEntries(open) }, integer('capacity', 1, 2 ** 31 - 1)],
  };
  const methods = {
    write: {
      good: () => ['a line\n', false],
      parameters: [
        { name: 'line', wrong: { ...ODD, 7: 7 } },
        { name: 'isNotice', wrong: { ...without(ODD, 'true'), 1: 1 } },
      ],
    },
    drain: { good: () => [1000], parameters: [integer('timeoutMs', 0, 2 ** 31 - 1)] },
    counters: { good: () => [], parameters: [] },
    close: { good: () => [], parameters: [] },
  };
  return { make, one: make(), methods, constructor };
}

function packetSocket() {
  const options = (more) => ({ slots: 32, filter: ACCEPT_ALL, ...more });
  const one = new addon.PacketSocket(options());
  const inside = ({ name, wrong, refused = {}, ...rest }) => ({
    name,
    wrong: Object.fromEntries(Object.entries(wrong).map(([label, value]) => [`${name}: ${label}`, options({ [name]: value })])),
    refused: Object.fromEntries(Object.entries(refused).map(([label, [value, code]]) => [label, [options({ [name]: value }), code]])),
    ...rest,
  });
  const constructor = {
    good: () => [options()],
    parameters: [
      { name: 'options', wrong: { ...without(ODD, 'an array', 'an object', 'a function', 'a date'), 'a text': 'x' } },
      inside(integer('slots', 1, 16352)),
      inside(filter),
      inside({ name: 'all', wrong: { ...without(ODD, 'undefined', 'true'), 1: 1 } }),
      {
        name: 'the getter',
        wrong: { 'slots throws': throwing('slots'), 'filter throws': { slots: 1, __proto__: throwing('filter') } },
        throws: RangeError,
      },
    ].map((parameter) => ({ ...parameter, at: 0 })),
  };
  const methods = {
    receive: { good: () => [new Int32Array(600), 0], parameters: [frames(one.slab), integer('timeoutMs', -1, 2 ** 31 - 1)] },
    transmit: { good: () => [new Int32Array(600), 0], parameters: [frames(one.slab), integer('count', 0, 0)] },
    setFilter: { good: () => [ACCEPT_ALL], parameters: [filter] },
    setPorts: { good: () => [[1]], parameters: [ports()] },
    statistics: { good: () => [], parameters: [] },
    close: { good: () => [], parameters: [] },
  };
  return { make: () => new addon.PacketSocket(options()), one, methods, constructor };
}

/** Each time two new sockets: a group cannot be left. */
function tryFanOut() {
  const make = () => new addon.PacketSocket({ slots: 32, filter: ACCEPT_ALL });
  const pair = [];
  const good = () => {
    pair.splice(0).forEach((socket) => socket.close());
    pair.push(make(), make());
    return [pair.map(({ fd }) => fd), Uint32Array.of(6, 1)];
  };
  const one = make();
  // What is no packet socket at all was tried without privileges.
  const refused = {
    'one that is none': [[one.fd, shared.listening], 'EINVAL'],
    'the same twice': [[one.fd, one.fd], 'EALREADY'],
  };
  const fds = { ...fanOutDescriptors(), refused };
  tryCalls('fanOut', addon.fanOut, { good, parameters: [fds, program('program')] });
  const ofGroup = () => {
    const [all, accept] = good();
    addon.fanOut(all, accept);
    return [all[0], accept];
  };
  const fd = { ...integer('fd', 0, 2 ** 31 - 1), refused: { 'one that is none': [shared.listening, 'EINVAL'] } };
  tryCalls('steer', addon.steer, { good: ofGroup, parameters: [fd, program('program')] });
  [one, ...pair].forEach((socket) => socket.close());
}

function without(object, ...keys) {
  return Object.fromEntries(Object.entries(object).filter(([key]) => !keys.includes(key)));
}

// ---- calls

let calls = 0;

/** Calls; `expect` looks at the error, or at undefined, and says what is wrong with it. */
function attempt(label, call, expect) {
  tell({ call: label });
  calls++;
  let error;
  try {
    call();
  } catch (thrown) {
    error = thrown;
  }
  const wrong = expect(error);
  if (wrong)
    tell({
      wrong: `${label}: ${wrong}; it was: ${error === undefined ? 'no error' : `${error.name} ${error.code ?? ''} ${error.message}`}`,
    });
}

const isFine = (error) => error && 'must not throw';
const isTypeError = (error) => !(error instanceof TypeError) && 'must throw a TypeError';
const hasCode = (code) => (error) =>
  !(error?.code === code && error.errno > 0 && error.message.includes(error.syscall)) && `must fail with ${code} and say at what`;

function says({ name, range = '', throws = TypeError }) {
  return (error) => {
    if (!(error instanceof throws)) return `must throw a ${throws.name}`;
    return !(error.message.includes(name) && error.message.includes(range)) && `must name ${name} ${range}`;
  };
}

/** `call(...values)` with each parameter wrong in turn, with too few and with too many. */
function tryCalls(label, call, { good, valid = () => [], parameters, undo = () => {} }) {
  parameters.forEach((parameter, place) => {
    const at = parameter.at ?? place;
    const values = good ?? valid;
    const put = (value) => values().toSpliced(at, 1, value);
    for (const [odd, value] of Object.entries(parameter.wrong)) {
      if (value === undefined && odd !== 'undefined') continue;
      attempt(`${label}, ${parameter.name} is ${odd}`, () => undo(call(...put(value))), says(parameter));
    }
    for (const [odd, [value, code]] of Object.entries(parameter.refused ?? {}))
      attempt(`${label}, ${parameter.name} is ${odd}`, () => undo(call(...put(value))), hasCode(code));
    attempt(`${label} without ${parameter.name}`, () => undo(call(...values().slice(0, at))), isTypeError);
  });
  if (!good) return;
  attempt(`${label} as it should be`, () => undo(call(...good())), isFine);
  attempt(`${label} with more than it takes`, () => undo(call(...good(), ...Object.values(ODD))), isFine);
}

function tryFunctions() {
  for (const [name, row] of Object.entries(functions())) {
    tryCalls(name, addon[name], row);
    if (row.good) attempt(`${name} as a method of something`, () => (row.undo ?? (() => {}))(addon[name].apply({}, row.good())), isFine);
  }
}

function tryClass(name, { make, one, methods, constructor }) {
  const Class = addon[name];
  tryCalls(`new ${name}`, (...values) => new Class(...values).close?.(), constructor);
  attempt(`${name} without new`, () => Class(...constructor.good()), isTypeError);
  const known = Object.getOwnPropertyNames(Class.prototype).filter((key) => key !== 'constructor');
  tell({ table: `${name}.prototype`, known, rows: Object.keys(methods) });
  for (const [method, row] of Object.entries(methods))
    tryMethod(`${name}.${method}`, { Class, method, row, one: method === 'close' ? make() : one });
  if (!one.close) return;
  one.close();
  for (const [method, row] of Object.entries(methods))
    attempt(`${name}.${method} after close`, () => one[method](...row.good()), method === 'close' ? isFine : hasCode('EBADF'));
}

function tryMethod(label, { Class, method, row, one }) {
  if (row.parameters.length > 0) tryCalls(label, one[method].bind(one), row);
  const call = Class.prototype[method];
  const other = Class.name === 'RouteSocket' ? new Proxy(one, {}) : new addon.RouteSocket();
  const strangers = [undefined, null, 1, {}, addon, Class.prototype, Object.create(Class.prototype), new Proxy(one, {}), other];
  strangers.forEach((self, i) => attempt(`${label} on a stranger (${i})`, () => call.apply(self, row.good()), isTypeError));
}

// ---- what is scarce

function limit(name, value) {
  execFileSync('prlimit', ['--pid', String(process.pid), `--${name}=${value}:`], { stdio: 'ignore' });
}

/** Files of a page, and address space for Node but not for what is asked. Started with a large stack: threads get as much. */
function tryScarceMemory() {
  limit('fsize', 4096);
  attempt('createSharedMemory beyond ulimit -f', () => addon.createSharedMemory('lb4-x', 2 ** 20), hasCode('EFBIG'));
  attempt('allocateFile beyond ulimit -f', () => addon.allocateFile(file, 2 ** 20), hasCode('EFBIG'));
  limit('fsize', 'unlimited');
  const total = Number(/MemTotal: +(\d+)/.exec(readFileSync('/proc/meminfo', 'utf8'))[1]) * 1024;
  if (total < 2 ** 32) attempt('createSharedMemory beyond memory', () => addon.createSharedMemory('lb4-x', 2 ** 32), hasCode('ENOMEM'));
  const routes = new addon.RouteSocket();
  const big = addon.createSharedMemory('lb4-x', 2 ** 28);
  limit('as', Number(/VmSize:\s+(\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))[1]) * 1024 + 2 ** 27);
  attempt('createSharedMemory without address space', () => addon.createSharedMemory('lb4-x', 2 ** 28), hasCode('ENOMEM'));
  attempt('mapSharedMemory without address space', () => addon.mapSharedMemory(big.fd), hasCode('ENOMEM'));
  if (isPrivileged)
    attempt('PacketSocket without address space', () => new addon.PacketSocket({ slots: 2048, filter: ACCEPT_ALL }), hasCode('ENOMEM'));
  attempt('a log writer without room for its thread', () => new addon.LogWriter(1, 4096), hasCode('EAGAIN'));
  attempt('usableCpus without room for its thread', () => addon.usableCpus(), hasCode('EAGAIN'));
  attempt('a watch without room for its thread', () => routes.watch(() => {}), hasCode('EAGAIN'));
}

function tryScarceDescriptors() {
  const routes = new addon.RouteSocket();
  // Programs are started before: they need descriptors as well.
  limit('nofile', 64);
  const taken = [];
  try {
    for (;;) taken.push(openSync('/dev/null', 'r'));
  } catch {}
  const scarce = hasCode('EMFILE');
  attempt('createSharedMemory', () => addon.createSharedMemory('lb4-x', 4096), scarce);
  attempt('listenTcp', () => addon.listenTcp('127.0.0.1', 0, 1), scarce);
  attempt('duplicateFd', () => addon.duplicateFd(shared.listening), scarce);
  attempt('new RouteSocket', () => new addon.RouteSocket(), scarce);
  attempt('new LogWriter', () => new addon.LogWriter(1, 4096), scarce);
  attempt('watch', () => routes.watch(() => {}), scarce);
  if (isPrivileged) attempt('new PacketSocket', () => new addon.PacketSocket({ slots: 32, filter: ACCEPT_ALL }), scarce);
  taken.forEach((fd) => closeSync(fd));
  attempt('createSharedMemory again', () => addon.createSharedMemory('lb4-x', 4096), isFine);
}

function tryArguments() {
  if (isPrivileged) {
    tryClass('PacketSocket', packetSocket());
    tryFanOut();
    return;
  }
  tell({ table: 'exports', known: Object.keys(addon), rows: [...Object.keys(functions()), 'PacketSocket', 'RouteSocket', 'LogWriter'] });
  tryFunctions();
  tryClass('RouteSocket', routeSocket());
  tryClass('LogWriter', logWriter());
}

({ arguments: tryArguments, memory: tryScarceMemory, descriptors: tryScarceDescriptors })[what]();
closeSync(file);
addon.closeFd(shared.listening);
addon.closeFd(memory.fd);
// The event loop must still go round: a descriptor of its own may have been closed.
setTimeout(() => tell({ done: calls }), 1);
