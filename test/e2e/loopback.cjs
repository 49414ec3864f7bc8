// Preloaded with `node --require` into servers that would listen on every interface: they get 127.0.0.1 instead. What
// cannot be understood is refused. The address goes to standard error, so that port 0 may be asked for.
'use strict';

const net = require('node:net');

const host = '127.0.0.1';
const listen = net.Server.prototype.listen;

net.Server.prototype.listen = function (...args) {
  const callback = typeof args.at(-1) === 'function' ? args.pop() : undefined;
  const asked = args[0] !== null && typeof args[0] === 'object' ? args[0].port : args[0];
  const port = Number(asked);
  if (asked === undefined || asked === '' || !Number.isInteger(port)) {
    throw new Error('only TCP ports, by number, can be listened on here');
  }
  this.once('listening', () => console.error(`listening on ${host}:${this.address().port}`));
  return listen.call(this, { port, host }, callback);
};
